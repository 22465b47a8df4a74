"""A small disk that can be filled: a tmpfs, mounted for one run where a server keeps its data.

Mounting needs a privilege. Without it the run goes on without this fault and reports that.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

#: Size of the tmpfs.
SIZE_MB = 48


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[str]:
    """Mount a small disk at `folder` until the end of the block. Yields why that is not possible; empty when it is mounted."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    reason = await _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder))
    try:
        yield f"no full disk: {reason}" if reason else ""
    finally:
        if not reason:
            await _run("umount", "--lazy", str(folder))


async def _run(*command: str) -> str:
    """Run a command. Returns its error output; empty when it succeeded."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    except OSError as error:
        return str(error)
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip() or f"{command[0]} failed" if process.returncode else ""
