"""From a run folder to a search that is ready to go: new, or resumed where it was left."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gasearch.analysis.findings import blind_line, blind_lines
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.io.hosts import host_to_json
from gasearch.execution.contract import Engine, Executor, ExecutorRequest, PotentialSource
from gasearch.execution.devices import (
    choose_device,
    device_of_nodes,
    enough_for_batches,
    enough_in_flight,
    places_per_worker,
)
from gasearch.execution.engines import open_engine
from gasearch.operators.contract import WeightedOperator, default_operators, load_operators
from gasearch.run.folder import RunFolder
from gasearch.run.host import build_host, searched_compositions
from gasearch.search.dispatcher import Dispatcher, DispatchSettings, rattled
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.resume import (
    CALIBRATION_FOUND,
    SEEDS_FOUND,
    WINDOWS_FOUND,
    changed_keys,
    changed_versions,
    refuse_changed_host,
    refuse_changed_settings,
    versions,
)
from gasearch.search.screening.acquisition import load_acquisition
from gasearch.search.search import Ending, Search, SearchLimits
from gasearch.search.seeds import Seed, collect_seeds, seeds_from_record, seeds_to_record
from gasearch.search.visibility import Immediate, Lagged, Visibility
from gasearch.seeding import named_rng
from gasearch.store.opening import driver_lock
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import AWARENESS, POTENTIAL_PLACE, LevelRecord, Outcome, RunRecord
from gasearch.store.sql.events import ENDED, STARTED

if TYPE_CHECKING:
    from ase import Atoms

    from gasearch.potentials.contract import Potential
    from gasearch.relax.moment_reader import MomentReader

_NAME = "potential.name"


class Session:
    """Everything that a search of one run folder needs.

    Parameters
    ----------
    folder
        With a run.toml.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.settings = folder.settings()
        self.host = build_host(self.settings.host, folder.path)
        self.compositions = searched_compositions(self.settings.search, self.host)
        self.operators = self._operators()
        self.acquisition = load_acquisition(self.settings.screening.acquisition, folder.path)
        self._bases: dict[str, Potential] = {}

    def _operators(self) -> tuple[WeightedOperator, ...]:
        if not self.settings.operators:
            return default_operators(self.host)
        return load_operators(self.settings.operators, self.folder.path)

    def run(
        self,
        observe: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,  # noqa: ARG005
        stop: threading.Event | None = None,
        engine: Engine | None = None,
    ) -> Ending:
        """Start or resume the search, and return why it ended.

        Parameters
        ----------
        observe
            Called with the results of each commit.
        stop
            Set it, from a signal handler for instance, to end the search cleanly.
        engine
            What other searches use too, and who made it closes it; else one of its own, as
            [execution] says.
        """
        with driver_lock(self.folder.claim_place()), self._store() as store:
            before = store.run.operational
            changes = changed_keys(before, self.settings.operational())
            batch = store.batch()
            if changes:
                batch.set_operational(changes)
            batch.event(STARTED, data={"versions": dict(versions())})
            batch.commit()
            with self._engine(engine) as at_hand:
                ending = self._search(store, observe, stop or threading.Event(), at_hand).run()
            batch = store.batch()
            batch.event(ENDED, data={"ending": ending})
            batch.commit()
        return ending

    @contextmanager
    def _engine(self, shared: Engine | None) -> Iterator[Engine]:
        if shared is not None:
            yield shared
            return
        engine = open_engine(self.settings.execution, self.folder.path)
        try:
            yield engine
        finally:
            engine.close()

    def _store(self) -> PopulationStore:
        """Open the database after comparing it with run.toml and the potential, or make it."""
        if self.folder.is_started:
            store = self.folder.open_store(read_only=False, is_driver=True)
            try:
                self.refuse_changes(store.run, store.level)
                self.refuse_other_level(store.level)
                self._record_place(store)
            except BaseException:
                store.close()
                raise
            return store
        return self.folder.create_store(self._new_run(), self._new_level())

    def proposer(self, *, ranks_only: bool) -> Proposer:
        """Return a proposer that knows nothing yet.

        Parameters
        ----------
        ranks_only
            Whether the energies of the search make no hull.
        """
        settings = ProposalSettings(
            self.settings.search,
            self.settings.screening,
            coulomb=self.settings.seeds.coulomb,
            hull_aware=not ranks_only,
        )
        seeds = [seed.occupation for seed in self.seeds]
        return Proposer(
            self.host, self.operators, self.compositions, settings, seeds, self.acquisition
        )

    @functools.cached_property
    def seeds(self) -> tuple[Seed, ...]:
        """What the search starts from besides random decorations, as it was found at its start."""
        if self.folder.is_started:
            with self.folder.open_store() as store:
                return seeds_from_record(store.run.settings.get(SEEDS_FOUND))
        ends = self.host.compositions[0], self.host.compositions[-1]
        searched = {*self.compositions, *ends}
        return collect_seeds(self.settings.seeds, self.host, self.folder.path, searched)

    def visibility(self) -> Visibility:
        """Return the rule for what a proposal may know."""
        search = self.settings.search
        if search.reproducible:
            return Lagged(self.in_flight, self.settings.relax.long_calls)
        return Immediate()

    def _search(
        self,
        store: PopulationStore,
        observe: Callable[[Sequence[Outcome]], None],
        stop: threading.Event,
        engine: Engine,
    ) -> Search:
        settings = self.settings
        store_settings = settings.store

        def after_commit(outcomes: Sequence[Outcome]) -> None:
            store.backup_if_due(
                self.folder.backups, store_settings.backup_every_s, store_settings.backups
            )
            observe(outcomes)

        executor = engine.executor(self.executor_request())
        dispatch = DispatchSettings(settings.search.seed, settings.relax, settings.execution)
        dispatcher = Dispatcher(self.host, store, executor, dispatch, stop)
        limits = SearchLimits(
            settings.search.budget,
            self.in_flight,
            settings.search.stagnation,
            settings.relax.tight_window_per_fu,
        )
        return Search(
            store,
            self.proposer(ranks_only=store.level.ranks_only),
            self.visibility(),
            dispatcher,
            limits,
            after_commit if store_settings.backups else observe,
        )

    def executor_request(self) -> ExecutorRequest:
        """Return what the search wants of its engine."""
        execution, named = self.settings.execution, self.settings.potential
        alone = self.settings.search.reproducible
        places = places_per_worker(self.device, execution.most_workers, self.in_flight, alone=alone)
        source = PotentialSource(
            named.name,
            self.folder.path.resolve(),
            named.species,
            self.device,
            self.folder.batch_limits.resolve(),
            self.settings.relax.reader,
            self.calibration,
            self.windows,
        )
        return ExecutorRequest(
            source=source,
            folder=self.folder.path,
            log=self.folder.worker_log,
            places=places,
            wall_limit_s=execution.wall_limit_s,
            in_process=functools.partial(self._in_process, places, source.limits),
        )

    def _in_process(self, places: int, limits: Path | None) -> Executor:
        from gasearch.execution.in_process import InProcessExecutor

        potential, reader = self._potential_and_reader
        return InProcessExecutor(potential, places, limits, reader)

    @functools.cached_property
    def device(self) -> str:
        """Where relaxations run, as torch writes it."""
        potential, execution = self.settings.potential.name, self.settings.execution
        if execution.engine == "parsl":
            n_gpus = execution.gpus_per_node
            return device_of_nodes(execution.device, potential, self.folder.path, n_gpus)
        return choose_device(execution.device, potential, self.folder.path)

    @functools.cached_property
    def in_flight(self) -> int:
        """Candidates at once; where "auto" defines the search, as many as when it was started."""
        search, execution = self.settings.search, self.settings.execution
        if search.in_flight != "auto":
            return search.in_flight
        if search.reproducible and self.folder.is_started:
            with self.folder.open_store() as store:
                recorded = store.run.settings.get("search.in_flight")
            if isinstance(recorded, int):
                return recorded
        n_workers, n_atoms = execution.most_workers, len(self.host.atoms)
        if execution.engine == "parsl":
            return enough_for_batches(self.device, n_workers, n_atoms)
        return enough_in_flight(self.device, n_workers, n_atoms)

    @property
    def potential(self) -> Potential:
        """What computes energies in this process, with its hold."""
        return self._potential_and_reader[0]

    @functools.cached_property
    def _potential_and_reader(self) -> tuple[Potential, MomentReader | None]:
        from gasearch.relax.calibration import with_hold

        reader = self.settings.relax.reader
        return with_hold(self.base_potential, self.calibration, reader, self.windows)

    @functools.cached_property
    def windows(self) -> Mapping[str, Any] | None:
        """By which moments results are judged on this host, measured when a run is started.

        As `Windows.to_json` writes them; None where the reader's own fit. A resume uses what was
        recorded.
        """
        if self.folder.is_started:
            with self.folder.open_store() as store:
                recorded: Any = store.run.settings.get(WINDOWS_FOUND)
            return None if recorded is None else dict(recorded)
        from gasearch.relax.calibration import windows_for

        is_held = self.settings.potential.hold != "off"
        reader = self.settings.relax.reader
        device = self.base_potential.device
        found = windows_for(self.host, self.base_potential, reader, is_held=is_held, device=device)
        return None if found is None else found.to_json()

    @functools.cached_property
    def calibration(self) -> Mapping[str, Any] | None:
        """What the host's states look like to a held potential, measured when a run is started.

        As `Calibration.to_json` writes it; None where nothing is held. A resume uses what was
        recorded.
        """
        named = self.settings.potential
        if named.hold == "off":
            return None
        if self.folder.is_started:
            with self.folder.open_store() as store:
                recorded: Any = store.run.settings.get(CALIBRATION_FOUND)
            if recorded is not None:
                return dict(recorded)
        from gasearch.relax.calibration import calibrate

        stiffness = named.hold_stiffness or None
        return calibrate(self.host, self.base_potential, named.hold, stiffness=stiffness).to_json()

    @property
    def base_potential(self) -> Potential:
        """The potential without a hold; loaded when it is first asked for.

        It leaves an accelerator to the worker that owns it, unless relaxations run here.
        """
        device = self.device  # one that is not there is refused here, before anything is made
        return self.base_on("cpu" if self.settings.execution.workers else device)

    def base_on(self, device: str) -> Potential:
        """Return the potential without a hold on a device; it is loaded once for each."""
        from gasearch.potentials.registry import load_potential

        if device not in self._bases:
            named = self.settings.potential
            species = named.species or None
            self._bases[device] = load_potential(named.name, self.folder.path, device, species)
        return self._bases[device]

    def _defining(self) -> dict[str, Any]:
        weights = [[o.name, o.weight] for o in self.operators]
        defining = {**self.settings.defining(), "operators.weights": weights}
        if "search.in_flight" in defining:
            defining["search.in_flight"] = self.in_flight
        return defining

    def _new_run(self) -> RunRecord:
        return RunRecord(
            host=host_to_json(self.host),
            host_atoms=Decoration.random(
                self.host, self.host.compositions[-1], named_rng(0, "host")
            ).to_atoms(),
            settings={
                **self._defining(),
                SEEDS_FOUND: seeds_to_record(self.seeds),
                **({CALIBRATION_FOUND: dict(self.calibration)} if self.calibration else {}),
                AWARENESS: self._awareness,
                **({WINDOWS_FOUND: dict(self.windows)} if self.windows else {}),
            },
            operational=self.settings.operational(),
            seed=self.settings.search.seed,
            n_formula_units=self.host.n_formula_units,
            versions=versions(),
        )

    def warnings(self) -> list[str]:
        """Return warnings for the user before a start or a resume."""
        return [
            *self._extrapolations(),
            *self._held(),
            *self._blind(),
            *self._judged(),
            *self._changed_versions(),
            *self._no_backups(),
        ]

    def _judged(self) -> list[str]:
        """Return by which moments results are judged, and which elements are not."""
        if self.windows is None:
            return []
        from gasearch.relax.calibration import Windows

        return Windows.from_json(self.windows).in_words()

    def _held(self) -> list[str]:
        """Return what a held potential is worth, and by what it is held."""
        if self.calibration is None:
            return []
        from gasearch.relax.calibration import Calibration

        return Calibration.from_json(self.calibration).in_words()

    def _blind(self) -> list[str]:
        """Return that the potential tells no oxidation states apart, where that is allowed."""
        if not self.settings.potential.allow_charge_blind:
            return []
        if self.folder.is_started:
            with self.folder.open_store() as store:
                return blind_lines(store.run)
        found = self._awareness
        return [blind_line(found["change_eV"])] if found["is_blind"] else []

    @functools.cached_property
    def _awareness(self) -> dict[str, Any]:
        """Whether the potential tells oxidation states apart, as it is recorded; else refused."""
        return self._awareness_of(self.potential)

    def _awareness_of(self, potential: Potential) -> dict[str, Any]:
        from gasearch.potentials.measured.awareness import awareness_record

        allowed = self.settings.potential.allow_charge_blind
        return awareness_record(potential, self.probes(), named_rng(0, "awareness"), allowed)

    def _extrapolations(self) -> list[str]:
        """Return in what the structures lie outside of what the potential was trained on."""
        ask = getattr(self.potential, "extrapolations", None)
        if ask is None:
            return []
        found = {text: None for atoms in self.probes() for text in ask(atoms)}
        name = self.potential.name
        return [f"{name} extrapolates here: {', '.join(found)}."] if found else []

    def _no_backups(self) -> list[str]:
        store = self.settings.store
        if not (store.url and store.backups):
            return []
        return ["no backups are made here: the population is on a server, whose business they are."]

    def _changed_versions(self) -> list[str]:
        if not self.folder.is_started:
            return []
        with self.folder.open_store(read_only=False) as store:
            changed = changed_versions(store.run.versions, ("numpy", "torch"))
        now = versions()
        return [
            f"this run was started with {name} {recorded}, here is {now[name]}: "
            "its numbers may differ from those of an uninterrupted run."
            for name, recorded in changed.items()
        ]

    def refuse_changes(self, run: RunRecord, level: LevelRecord | None = None) -> None:
        """Refuse a run.toml, or a host, that defines another search than the recorded one.

        Parameters
        ----------
        level
            Of the run: a potential of another name with the same weights has only moved.
        """
        now = self._defining()
        if now[_NAME] != run.settings.get(_NAME) and self._has_moved(run, level):
            now[_NAME] = run.settings.get(_NAME)
        refuse_changed_settings(run, now, self.folder.path)
        host = host_to_json(self.host)
        refuse_changed_host(run, host, self.settings.host.structure, self.folder.path)

    def _has_moved(self, run: RunRecord, level: LevelRecord | None) -> bool:
        """Return whether the potential, under another name than recorded, has the same weights."""
        if run.operational.get(POTENTIAL_PLACE) == self.settings.potential.name:
            return True  # it was the same before; on each resume its level is compared
        recorded = "" if level is None else level.weights_hash
        return bool(recorded) and self.potential.weights_hash == recorded

    def _record_place(self, store: PopulationStore) -> None:
        """Record where a potential is now that has moved since the search was started."""
        name, run = self.settings.potential.name, store.run
        if name != run.operational.get(POTENTIAL_PLACE, run.settings.get(_NAME)):
            store.batch().set_operational({POTENTIAL_PLACE: name}).commit()

    def probes(self) -> list[Atoms]:
        """Return two fixed decorations whose energies identify the potential."""
        compositions = self.host.compositions
        chosen = (compositions[len(compositions) // 2], compositions[-1])
        return [
            rattled(Decoration.random(self.host, c, named_rng(n, "probe")), 0.05, n)
            for n, c in enumerate(chosen)
        ]

    def _new_level(self) -> LevelRecord:
        level = self.level_of(self.potential)
        self.refuse_unfit(self.potential)
        return level

    def refuse_unfit(self, potential: Potential) -> None:
        """Raise for a potential whose stress contradicts its energy, or that is charge-blind."""
        from gasearch.potentials.measured.stress import check_stress

        check_stress(potential, self.probes()[0])
        if potential is self.potential:
            _ = self._awareness
        else:
            self._awareness_of(potential)

    def level_of(self, potential: Potential) -> LevelRecord:
        """Return the level of theory of this search with a potential, measured on its probes."""
        from gasearch.potentials.measured.level import measure_level

        level = measure_level(potential, self.probes())
        return LevelRecord(
            name=level.name,
            potential=self.settings.potential.name,
            weights_hash=level.weights_hash,
            probe_energies=level.probe_energies,
            ranks_only=potential.ranks_only,
        )

    def refuse_other_level(self, stored: LevelRecord) -> None:
        """Refuse a potential that no longer computes what it did when the search began."""
        from gasearch.potentials.measured.level import compare_levels

        compare_levels(stored, self.level_of(self.potential))
