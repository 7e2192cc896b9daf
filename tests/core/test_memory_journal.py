"""The memory journal keeps the promises of every journal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from socs_bl.core.journal import Commit, CommitUnknown
from socs_bl.core.memory_journal import MemoryJournal, Vault
from tests.core.journal_suite import RidingSuite


class TestMemoryJournal(RidingSuite):
    """The suite on a vault."""

    @pytest.fixture
    def vault(self) -> Vault:
        return Vault()

    @pytest.fixture
    def open_journal(self, vault: Vault) -> Callable[[], MemoryJournal]:
        return lambda: MemoryJournal(vault)

    @pytest.fixture
    def written(self, vault: Vault) -> Callable[[], list[tuple[str, ...]]]:
        return lambda: vault.writes

    def test_a_lost_answer_is_a_commit(self, vault: Vault) -> None:
        """When the answer is lost the writer is told so, and the commit stands."""
        journal = MemoryJournal(vault)
        epoch = journal.claim("a").epoch
        vault.lose_answer = True
        with pytest.raises(CommitUnknown):
            journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}))
        assert journal.load().sequence == 1
