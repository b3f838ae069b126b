"""Typed methods about service desks: for customers, and for the agents of a desk."""

from dataclasses import dataclass

from chatd.client.asking import Asking
from chatd.wire.schema import CaseState, Method

DESKS_PAGE, CASES_PAGE = 50, 100


@dataclass(frozen=True, slots=True)
class Desk:
    """cid: the group whose members are the agents."""

    name: str
    cid: int
    title: str


@dataclass(frozen=True, slots=True)
class Case:
    """The conversation of a customer with a desk. agent 0: nobody has it; since_ms: when it came into its state;
    stars 0: not rated.
    """

    cid: int
    customer: int
    name: str
    state: CaseState
    agent: int
    since_ms: int
    stars: int
    subject: str


class ServiceMethods(Asking):
    """Part of Client. What changes a case returns the seq of the event, 0 when it was so already."""

    async def desks(self) -> list[Desk]:
        """By name."""
        return [Desk(*row) async for row in self._rows(Method.DESK_LIST, {}, DESKS_PAGE, after="")]

    async def admin_set_desk(self, name: str, cid: int) -> None:
        """The members of that group are the agents; 0: there is no such desk any more."""
        await self.request(Method.DESK_SET, {1: name, 2: cid})

    async def open_case(self, desk: str, subject: str = "", customer: int = 0) -> int:
        """The cid of our conversation with a desk, made or opened again. customer: for agents, somebody else's."""
        return int((await self.request(Method.CASE_OPEN, {1: desk, 2: subject, 3: customer}))[1])

    async def cases(self, desk: int, state: CaseState | None = None) -> list[Case]:
        """Of a desk (its group), for its agents; those that wait longest first."""
        rows = self._rows(Method.CASE_LIST, {1: desk, 2: int(state or 0)}, CASES_PAGE)
        found = [Case(cid, user, name, CaseState(now), *rest) async for cid, user, name, now, *rest in rows]
        return sorted(found, key=lambda case: case.since_ms)

    async def assign_case(self, cid: int, agent: int, *, expected: int | None = None) -> int:
        """0: nobody, it waits again. expected: ForbiddenError when another agent has it, or somebody at all (0)."""
        return int((await self.request(Method.CASE_ASSIGN, {1: cid, 2: agent, 3: expected}))[1])

    async def close_case(self, cid: int, closed: bool = True) -> int:
        """False opens it again."""
        return int((await self.request(Method.CASE_CLOSE, {1: cid, 2: closed}))[1])

    async def rate_case(self, cid: int, stars: int) -> int:
        """Of a closed case, by the customer: 1 to 5."""
        return int((await self.request(Method.CASE_RATE, {1: cid, 2: stars}))[1])
