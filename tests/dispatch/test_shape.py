from raytes.config import Settings
from raytes.dispatch.shape import Node, Shape, shape_of, with_disk
from raytes.models import TesResources

SETTINGS = Settings(default_cpu_cores=1, default_ram_gb=2.0)


def test_a_task_that_asks_for_nothing_gets_the_defaults() -> None:
    assert shape_of(None, SETTINGS, serving=False) == Shape(cpus=1, memory=2 * 10**9)


def test_zero_is_asking_for_nothing() -> None:
    asked = TesResources(cpu_cores=0, ram_gb=0.0)
    assert shape_of(asked, SETTINGS, serving=False) == Shape(cpus=1, memory=2 * 10**9)


def test_resources_become_actor_options() -> None:
    asked = TesResources(cpu_cores=4, ram_gb=0.5, disk_gb=10.0, zones=["b", "a"], preemptible=False)
    options = shape_of(asked, SETTINGS, serving=True).actor_options(
        serving_node="abc", disk_declared=True
    )
    assert options == {
        "num_cpus": 4,
        "memory": 500_000_000,
        "resources": {"disk_gb": 10.0},
        "label_selector": {
            "ray.io/availability-zone": "in(a,b)",
            "ray.io/market-type": "!spot",
            "ray.io/node-id": "abc",
        },
    }


def test_gpus_become_ray_s_and_their_type_the_accelerator_label() -> None:
    asked = TesResources(backend_parameters={"gpu_count": "2", "gpu_type": "A100"})
    shape = shape_of(asked, SETTINGS, serving=False)
    options = shape.actor_options(serving_node="", disk_declared=False)
    assert options["num_gpus"] == 2
    assert options["label_selector"] == {"ray.io/accelerator-type": "A100"}
    assert "2 A100 GPUs" in str(shape)


def test_a_task_that_asks_for_no_gpu_asks_ray_for_none() -> None:
    options = Shape(cpus=1, memory=1).actor_options(serving_node="", disk_declared=False)
    assert options == {"num_cpus": 1, "memory": 1}


def test_nodes_to_keep_away_from_become_a_label_but_not_where_only_one_will_do() -> None:
    options = Shape(cpus=1, memory=1).actor_options(
        serving_node="s", disk_declared=False, without={"b", "a"}
    )
    assert options["label_selector"] == {"ray.io/node-id": "!in(a,b)"}
    options = Shape(cpus=1, memory=1, serving=True).actor_options(
        serving_node="s", disk_declared=False, without={"b", "a"}
    )
    assert options["label_selector"] == {"ray.io/node-id": "s"}


def test_a_default_for_disk_is_asked_for() -> None:
    settings = Settings(default_disk_gb=5.0)
    assert shape_of(None, settings, serving=False).disk_gb == 5


def test_less_disk_than_ray_counts_becomes_the_least_that_it_counts() -> None:
    shape = shape_of(TesResources(disk_gb=1e-7), SETTINGS, serving=False)
    options = shape.actor_options(serving_node="", disk_declared=True)
    assert options["resources"] == {"disk_gb": 0.0001}


def test_disk_is_not_asked_of_a_cluster_that_does_not_declare_it() -> None:
    shape = Shape(cpus=1, memory=1, disk_gb=10.0)
    assert "resources" not in shape.actor_options(serving_node="", disk_declared=False)


def test_a_shape_survives_being_stored() -> None:
    shape = Shape(
        cpus=2, memory=3, disk_gb=0.5, zones=("a",), on_demand=True, serving=True, gpus=1,
        gpu_type="L4",
    )  # fmt: skip
    assert Shape.from_key(shape.key()) == shape


def test_a_node_holds_what_fits_it_and_is_of_its_kind() -> None:
    node = Node("n", cpus=4, memory=8, disk_gb=10, zone="a", spot=True)
    assert node.could_hold(Shape(cpus=4, memory=8, disk_gb=10, zones=("a", "b")))
    assert not node.could_hold(Shape(cpus=5, memory=8))
    assert not node.could_hold(Shape(cpus=1, memory=9))
    assert not node.could_hold(Shape(cpus=1, memory=1, disk_gb=11))
    assert not node.could_hold(Shape(cpus=1, memory=1, zones=("b",)))
    assert not node.could_hold(Shape(cpus=1, memory=1, on_demand=True))
    assert not node.could_hold(Shape(cpus=1, memory=1, serving=True))
    assert not node.could_hold(Shape(cpus=1, memory=1, gpus=1))


def test_a_node_with_gpus_holds_as_many_of_their_type() -> None:
    node = Node("n", cpus=4, memory=8, gpus=2, gpu_type="A100")
    assert node.could_hold(Shape(cpus=1, memory=1, gpus=2))
    assert node.could_hold(Shape(cpus=1, memory=1, gpus=1, gpu_type="A100"))
    assert not node.could_hold(Shape(cpus=1, memory=1, gpus=3))
    assert not node.could_hold(Shape(cpus=1, memory=1, gpus=1, gpu_type="L4"))
    assert str(node) == "4 CPUs and 0.0 GB of memory and 2 A100 GPUs"


def test_where_one_node_declares_disk_those_that_do_not_have_none() -> None:
    small, large = Node("small", 2, 1000, disk_gb=200.0), Node("large", 16, 1000)
    assert with_disk([large]) == ([large], False)
    counted, declared = with_disk([small, large])
    assert declared
    wanted = Shape(cpus=8, memory=1, disk_gb=10)
    assert large.could_hold(wanted)
    assert not any(node.could_hold(wanted) for node in counted)
    assert counted[1].could_hold(Shape(cpus=8, memory=1))
