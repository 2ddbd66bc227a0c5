"""The application as a Ray Serve deployment."""

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from raytes.api.app import create_app
from raytes.config import Settings
from raytes.dispatch.shape import NODE_LABEL

# A replica is one event loop that waits for the store: what it has in hand costs no CPU.
_MAX_ONGOING_REQUESTS = 10_000
# Serve finds a dead replica by this look alone, and there is no other.
_LOOKED_AT_EVERY_S = 1


def application(settings: Settings, node: str) -> Application:
    """The application of one service, on the node `node` (a Ray node id in hexadecimal),
    where its database is."""

    class Api:
        """Serves the TES API."""

    def build() -> Starlette:  # in the replica, where its store is
        return create_app(settings)

    deployment = serve.deployment(
        name="api",
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        # Not a line for each request: that costs a tenth of what answering does.
        logging_config={"log_level": "WARNING"},
        health_check_period_s=_LOOKED_AT_EVERY_S,
        ray_actor_options={"num_cpus": 0, "label_selector": {NODE_LABEL: node}},
    )
    return deployment(serve.ingress(build)(Api)).bind()
