"""What a runner counts for those who watch the cluster, through Ray's own metrics."""

from ray.util.metrics import Counter

from raytes.runner.inputs import StagedIn

_TAGS = ("service", "cache")


class InputMetrics:
    """How the node's cache serves the tasks; Ray's agent on each node exports it to Prometheus
    as `ray_raytes_input_files_total` and `ray_raytes_input_bytes_total`.
    """

    def __init__(self, service: str) -> None:
        self._files = Counter(
            "raytes_input_files",
            "Files of remote inputs, by whether the node had them already (hit) or not (miss).",
            _TAGS,
        )
        self._bytes = Counter(
            "raytes_input_bytes",
            "Bytes of remote inputs that the node had already (hit) or that came over the network "
            "(miss).",
            _TAGS,
        )
        for counter in (self._files, self._bytes):
            counter.set_default_tags({"service": service})

    def count(self, staged: StagedIn) -> None:
        """Add the inputs of one task."""
        self._add("hit", staged.cached, staged.cached_bytes)
        self._add("miss", staged.fetched - staged.cached, staged.fetched_bytes)

    def _add(self, cache: str, files: int, size: int) -> None:
        # Ray refuses to add nothing.
        for counter, count in ((self._files, files), (self._bytes, size)):
            if count:
                counter.inc(count, {"cache": cache})
