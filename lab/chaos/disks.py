"""A small disk that can be filled: a tmpfs, mounted for one run where a server keeps its data. It is an honest full disk.

Mounting needs rights that not everybody has; then the run says so and goes on without.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

SIZE_MB = 48


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[str]:
    """Mount one at `folder` until the end of the block. Gives why that is not possible; empty if it is."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    reason = await _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder))
    try:
        yield f"no full disk: {reason}" if reason else ""
    finally:
        if not reason:
            await _run("umount", "--lazy", str(folder))


async def _run(*command: str) -> str:
    """What went wrong; empty if nothing did."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    except OSError as error:
        return str(error)
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip() or "it failed" if process.returncode else ""
