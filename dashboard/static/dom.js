// Makes elements. Text from outside becomes text and nothing else: there is no way here to set markup.

/** An HTML element. Attributes that are functions become listeners, `false` and `null` leave an attribute out. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets text only where it differs, so that what is focused or selected stays. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes `parent` hold one child for each item, by key: what is there already stays, and with it its focus. */
export function keyed(parent, items, keyOf, make, update) {
  const keys = new Set(items.map((item) => String(keyOf(item))));
  const there = new Map();
  for (const child of [...parent.children]) {
    if (keys.has(child.dataset.key)) there.set(child.dataset.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = there.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}
