"""A route that returns a constant, behind the ingress of a service that runs.

`python -m benchmarks.constant` deploys it on the Ray at RAY_ADDRESS.
"""

import ray
from fastapi import FastAPI, Response
from ray import serve

CONSTANT_ROUTE = "/constant"


def _build() -> FastAPI:
    app = FastAPI(openapi_url=None)

    async def constant() -> Response:
        return Response(b'{"id":"01m85pd5xmm412dvc6vd18ybrf","state":"QUEUED"}')

    app.add_api_route("/", constant, methods=["GET", "POST"])
    return app


class Constant:
    """Answers every request alike."""


if __name__ == "__main__":
    ray.init(namespace="constant", logging_level="ERROR", log_to_driver=False)
    deployment = serve.deployment(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0})
    serve.run(
        deployment(serve.ingress(_build)(Constant)).bind(),
        name="constant",
        route_prefix=CONSTANT_ROUTE,
    )
