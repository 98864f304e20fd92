"""What an agent that stays has and a one-shot has not: it measures the node and says that it is there."""

import os
from importlib.metadata import PackageNotFoundError, version

from trainledger.node.allocation import AllocationLog
from trainledger.node.gpu_watch import watch_all
from trainledger.node.identity import NodeIdentity
from trainledger.node.instance_watch import InstanceWatch
from trainledger.node.job_book import open_job_book
from trainledger.node.node_settings import AgentSettings
from trainledger.node.presence import Presence
from trainledger.node.sampler import NodeSampler
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
        self.allocation = AllocationLog(clock=clock, key_frame_s=sampling.key_frame_s)

    def close(self) -> None:
        """Stop looking, and close what was opened."""
        self.sampler.close()
        self.instance.close()


def _version() -> str:
    try:
        return version("trainledger")
    except PackageNotFoundError:
        return "unknown"
