"""Where data is kept: the configuration goes before the environment, and a file has one machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from deployments.config import AppConfig
from deployments.service_settings import Storage
from deployments.storage import check_placement, data_dir, database_url

POSTGRES = "postgresql://me@server/state"


def test_the_folder_is_that_of_the_configuration_before_that_of_the_environment() -> None:
    environ = {"PARAFORMER_DATA_DIR": "/from/environment"}

    assert data_dir(Storage(data_dir=Path("/from/file")), environ) == Path("/from/file")
    assert data_dir(Storage(), environ) == Path("/from/environment")
    assert data_dir(Storage(), {}) == Path.home() / ".local/share/paraformer-cluster"


def test_the_folder_does_not_depend_on_where_a_process_runs() -> None:
    assert data_dir(Storage(data_dir=Path("data")), {}) == Path.cwd() / "data"
    assert data_dir(Storage(data_dir=Path("~/data")), {}) == Path.home() / "data"


def test_the_database_is_a_file_in_the_folder_unless_a_url_is_named() -> None:
    environ = {"PARAFORMER_DATABASE_URL": POSTGRES}
    folder = Storage(data_dir=Path("/data"))

    assert database_url(folder, {}) == "sqlite:////data/state.db"
    assert database_url(folder, environ) == POSTGRES
    assert database_url(Storage(database_url="postgresql://other/x"), environ) == (
        "postgresql://other/x"
    )


@pytest.mark.parametrize("section", [AppConfig, Storage])
def test_a_password_belongs_into_the_environment_and_is_not_shown(section: type[BaseModel]) -> None:
    storage = {"database_url": "postgresql://me:hush@server/state"}

    with pytest.raises(ValidationError, match="PARAFORMER_DATABASE_URL") as caught:
        section.model_validate({"storage": storage} if section is AppConfig else storage)

    assert "hush" not in str(caught.value)


def test_a_file_in_a_cluster_of_several_nodes_needs_a_place() -> None:
    with pytest.raises(ValueError, match=r"2 nodes.*storage\.node_labels"):
        check_placement(Storage(), {}, n_nodes=2)


@pytest.mark.parametrize(
    ("storage", "n_nodes"),
    [
        (Storage(), 1),
        (Storage(node_labels={"disk": "data"}), 2),
        (Storage(database_url=POSTGRES), 2),
    ],
)
def test_one_place_for_the_data_is_accepted(storage: Storage, n_nodes: int) -> None:
    check_placement(storage, {}, n_nodes=n_nodes)
