import pytest

from raytes.config import GB, Settings
from raytes.models import TesResources
from raytes.parameters import BACKEND_PARAMETERS, Choices, choices_of


def choices(settings: Settings | None = None, **parameters: str) -> Choices:
    return choices_of(TesResources(backend_parameters=parameters), settings or Settings())


def test_a_task_that_asks_for_nothing_gets_what_is_set() -> None:
    settings = Settings(
        default_cpu_cores=2,
        default_ram_gb=0.5,
        default_disk_gb=3.0,
        entrypoint="image",
        max_runtime=60.0,
        network="host",
        missing_outputs="warn",
        max_retries=7,
    )
    for asked in (None, TesResources(), TesResources(cpu_cores=0, ram_gb=0.0, disk_gb=0.0)):
        assert choices_of(asked, settings) == Choices(
            2, 500_000_000, 3 * GB, "image", 60.0, "host", 0, "", "warn", 7
        )


def test_an_amount_too_small_to_be_counted_is_not_taken_for_no_limit() -> None:
    asked = TesResources(ram_gb=1e-10, disk_gb=5e-324)
    chosen = choices_of(asked, Settings())
    assert (chosen.memory, chosen.disk) == (12 * 2**20, 1)
    assert choices().disk == 0  # as much as there is


def test_a_task_that_asks_is_heard() -> None:
    asked = {
        "entrypoint": "image",
        "max_runtime": "1.5",
        "network": "none",
        "gpu_count": "2",
        "gpu_type": "A100",
        "missing_outputs": "warn",
        "max_retries": "0",
    }
    resources = TesResources(cpu_cores=4, ram_gb=0.3, disk_gb=0.02, backend_parameters=asked)
    assert choices_of(resources, Settings()) == Choices(
        4, 300_000_000, 20_000_000, "image", 1.5, "none", 2, "A100", "warn", 0
    )
    assert asked.keys() == BACKEND_PARAMETERS.keys()


def test_what_is_set_can_be_asked_away() -> None:
    settings = Settings(entrypoint="image", missing_outputs="warn")
    chosen = choices(settings, entrypoint="none", missing_outputs="error")
    assert (chosen.entrypoint, chosen.missing_outputs) == ("none", "error")


def test_a_task_can_not_ask_for_more_time_than_is_set() -> None:
    settings = Settings(max_runtime=10.0)
    assert choices(settings, max_runtime="20").max_runtime == 10
    assert choices(settings, max_runtime="5").max_runtime == 5
    assert choices().max_runtime is None


def test_a_type_of_gpu_without_a_count_is_one_of_it() -> None:
    assert choices(gpu_type="L4").gpu_count == 1


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("entrypoint", ["image", "none"], ["", "Image", "command"]),
        ("gpu_count", ["0", "8"], ["", "-1", "1.5", "two", "1025", "9" * 5000, "²"]),
        ("gpu_type", ["A100", "A100-40G", "L4"], ["", "-", "A100)", "a b", "x" * 64, "A100\n"]),
        ("max_retries", ["0", "100"], ["-1", "101", "many"]),
        ("max_runtime", ["1", "0.5", "86400"], ["", "0", "0.0", "-1", "1h", "inf", "nan", "1e9"]),
        ("missing_outputs", ["error", "warn"], ["ignore", ""]),
        ("network", ["none"], ["host", "bridge", "default", ""]),
    ],
)
def test_values_are_checked(key: str, right: list[str], wrong: list[str]) -> None:
    check = BACKEND_PARAMETERS[key]
    assert [check(value) for value in right] == [None] * len(right)
    assert all(check(value) for value in wrong)
