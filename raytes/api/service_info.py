"""What GET /service-info says: computed from the settings and from what is truly there."""

from datetime import datetime

import orjson

import raytes
from raytes.api.parameters import Supported
from raytes.config import Settings
from raytes.models import Artifact, Organization, TesServiceInfo, TesServiceType

TES_VERSION = "1.1.0"


def service_info(
    settings: Settings, facts: dict[str, str], storage: list[str], parameters: Supported
) -> TesServiceInfo:
    """The service as it is now.

    Parameters:
        facts: what the store remembers: `created`, the first start of this state, and
            `updated`, the last deployment.
        storage: the locations that are enabled.
        parameters: the backend parameters that are supported.
    """
    return TesServiceInfo(
        id=settings.service_id,
        name=settings.service_name,
        type=TesServiceType(group="org.ga4gh", artifact=Artifact.tes, version=TES_VERSION),
        description=settings.description,
        organization=Organization(name=settings.organization_name, url=settings.organization_url),
        createdAt=datetime.fromisoformat(facts["created"]),
        updatedAt=datetime.fromisoformat(facts["updated"]),
        version=raytes.__version__,
        storage=storage,
        tesResources_backend_parameters=sorted(parameters),
        contactUrl=None if settings.contact_url is None else str(settings.contact_url),
        documentationUrl=settings.documentation_url,
        environment=settings.environment,
    )


def draft_service_info(settings: Settings, storage: list[str]) -> bytes:
    """The same as the drafts before TES 1.0 had it, in JSON."""
    return orjson.dumps(
        {"name": settings.service_name, "doc": settings.description, "storage": storage}
    )
