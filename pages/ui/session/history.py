"""Undo and redo: the view states of a session and where in them the page stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pages.ui.session.view_state import ViewState


@dataclass(frozen=True)
class History:
    """The view states of a session, oldest first, and the position of the one on screen."""

    states: tuple[ViewState, ...]
    position: int = 0

    @property
    def now(self) -> ViewState:
        """The view state on screen."""
        return self.states[self.position]

    def push(self, state: ViewState, limit: int = 500) -> History:
        """The history after a move: a new step where plan or recovery method changed, else the same step replaced."""
        if (state.plan, state.method) == (self.now.plan, self.now.method):
            return self.put(state)
        states = (*self.states[: self.position + 1], state)[-limit:]
        return History(states, len(states) - 1)

    def put(self, state: ViewState) -> History:
        """The history with the step on screen replaced: undo goes back to what was before it."""
        return replace(self, states=(*self.states[: self.position], state, *self.states[self.position + 1 :]))

    def move(self, steps: int) -> History:
        """Undo (-1) or redo (+1), as far as there is a step."""
        return replace(self, position=min(max(self.position + steps, 0), len(self.states) - 1))

    @property
    def can_undo(self) -> bool:
        """Whether there is a step before this one."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a step after this one."""
        return self.position < len(self.states) - 1
