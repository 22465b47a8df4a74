// Creates and updates elements. Text from outside becomes a text node; no function here sets markup.

/** An HTML element. Attributes that are functions become listeners; `false`, `null` and `undefined` omit the attribute. */
export function el(name, attributes = {}, ...children) {
  return withContent(document.createElement(name), attributes, children);
}

/** An SVG element, with the same attributes. */
export function svg(name, attributes = {}, ...children) {
  return withContent(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function withContent(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets the text of a node only if it differs, so that focus and selection stay. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes `parent` hold one child for each item, by key. Existing children are kept, and with them their focus. */
export function keyed(parent, items, keyOf, make, update) {
  const keys = new Set(items.map((item) => String(keyOf(item))));
  const existing = new Map();
  for (const child of [...parent.children]) {
    if (keys.has(child.dataset.key)) existing.set(child.dataset.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = existing.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}
