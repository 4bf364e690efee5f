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
        self.marked: set[str] = set()  # ids of nodes that show lines

    def renew(self) -> None:
        """Take away what the running node still shows of an earlier run; call it before anything that may warn."""
        node = get_executing_context()
        if node is not None and node == self.node:
            return
        self.node, self.logged, self.shown = node, set(), []
        if node is not None and node.node_id in self.marked:
            self.show(node.node_id)

    def note(self, line: str) -> bool:
        """Log a warning; whether it is new."""
        self.renew()
        if line in self.logged:
            return False
        self.logged.add(line)
        logger.warning(line)
        return True

    def warn(self, line: str) -> None:
        """Log a warning and show it on the running node, below the earlier ones."""
        if self.note(line) and self.node is not None:
            self.shown.append(line)
            self.show(self.node.node_id)

    def show(self, node_id: str) -> None:
        """Show the lines of this run on a node, in place of those before."""
        from server import PromptServer  # a server runs wherever a node does

        (self.marked.add if self.shown else self.marked.discard)(node_id)
        PromptServer.instance.send_progress_text("\n".join(self.shown), node_id)


notices = Notices()
note, renew, warn = notices.note, notices.renew, notices.warn
