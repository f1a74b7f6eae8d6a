"""What a search found."""

from gasearch.run.folder import RunFolder


def record(folder):
    """Return the candidates of a search and their results, without what depends on timing."""
    with RunFolder(folder).open_store() as store:
        outcomes = {o.candidate: o for o in store.outcomes()}
        assert len(outcomes) == len(store.outcomes()), "a candidate counted twice"
        return [
            (p.number, p.fingerprint, p.operator, p.parents, p.n_rejected,
             outcomes[p.number].energy, outcomes[p.number].verdict)
            for p in store.proposals()
        ]  # fmt: skip
