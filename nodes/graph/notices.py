"""One line for the user, in the log and on the node that is running."""

from __future__ import annotations

import logging

from comfy_execution.utils import ExecutionContext, get_executing_context

logger = logging.getLogger(__name__)


class Notices:
    """What the running node has logged and shown its user so far, each line only once a run."""

    def __init__(self):
        self.node: ExecutionContext | None = None
        self.logged: set[str] = set()
        self.shown: list[str] = []

    def note(self, line: str) -> bool:
        """Log a warning; whether it is new."""
        node = get_executing_context()
        if node is None or node != self.node:
            self.node, self.logged, self.shown = node, set(), []
        if line in self.logged:
            return False
        self.logged.add(line)
        logger.warning(line)
        return True

    def warn(self, line: str) -> None:
        """Log a warning and show it on the running node, below the earlier ones."""
        if self.note(line) and self.node is not None:
            from server import PromptServer  # a server runs wherever a node does

            self.shown.append(line)
            PromptServer.instance.send_progress_text("\n".join(self.shown), self.node.node_id)


notices = Notices()
note, warn = notices.note, notices.warn
