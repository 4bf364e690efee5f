"""One line for the user, in the log and on the node that is running."""

from __future__ import annotations

import logging

from comfy_execution.utils import ExecutionContext, get_executing_context

logger = logging.getLogger(__name__)


class Notices:
    """What the running node has told its user so far."""

    def __init__(self):
        self.node: ExecutionContext | None = None
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        """Log a warning and show it on the running node, below the earlier ones; the same line only once a run."""
        node = get_executing_context()
        if node is None or node != self.node:
            self.node, self.lines = node, []
        if line in self.lines:
            return
        self.lines.append(line)
        logger.warning(line)
        if node is not None:
            from server import PromptServer  # a server runs wherever a node does

            PromptServer.instance.send_progress_text("\n".join(self.lines), node.node_id)


tell = Notices().tell
