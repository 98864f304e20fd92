"""What an agent that stays has and a one-shot has not: it measures the node and says that it is there."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from trainledger.node.allocation import AllocationLog
from trainledger.node.gpu_watch import watch_all
from trainledger.node.identity import NodeIdentity
from trainledger.node.instance_watch import InstanceWatch
from trainledger.node.job_book import open_job_book
from trainledger.node.node_settings import AgentSettings
from trainledger.node.presence import Presence
from trainledger.node.processes import WriterProcess
from trainledger.node.sampler import NodeEvent, NodeSampler
from trainledger.node.writer_devices import WriterDevices
from trainledger_schemas.clock import Clock

__all__ = ["NodeWatch"]


class NodeWatch:
    """The parts that make events of the node; measuring begins here, and threads that look at the GPUs."""

    def __init__(self, *, identity: NodeIdentity, clock: Clock, settings: AgentSettings) -> None:
        sampling = settings.sampling
        cores = os.cpu_count() or 1
        jobs = open_job_book(clock, settings.schedulers, cores=cores, kubelet=settings.kubelet)
        self.sampler = NodeSampler(clock, sampling, gpus=watch_all(clock, sampling), jobs=jobs)
        self.instance = InstanceWatch(clock, settings.ec2)
        self.presence = Presence(
            identity=identity,
            clock=clock,
            reader=self.sampler.reader,
            agent_version=_version(),
            interval_s=sampling.presence_interval_s,
            instance=self.instance.current,
        )
        self._allocation = AllocationLog(clock=clock, key_frame_s=sampling.key_frame_s)
        self._devices = WriterDevices(clock, jobs)

    def held(self, writers: Sequence[WriterProcess]) -> list[NodeEvent]:
        """Who holds what, where that is to be told: an `allocation` event, and one a writer that is on more devices."""
        occupants, claims = self.sampler.holdings()
        allocation = self._allocation.observe(writers, occupants, claims)
        found = self._devices.observe(writers, occupants, self.sampler.devices)
        events: list[NodeEvent] = [] if allocation is None else [("allocation", allocation)]
        return [*events, *(("writer_devices", fields) for fields in found)]

    def close(self) -> None:
        """Stop looking, and close what was opened."""
        self.sampler.close()
        self.instance.close()


def _version() -> str:
    try:
        return version("trainledger")
    except PackageNotFoundError:
        return "unknown"
