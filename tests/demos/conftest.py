"""Fixtures of the tests of the demo's page; its modules are imported where gradio is, by the tests that need them."""

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pipelines with tiny networks."""
    from demo_helpers import save_pipelines

    return save_pipelines(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def models(folder):
    from demo_helpers import app_models

    return app_models.Models(folder)


@pytest.fixture
def blank():
    from demo_helpers import blank_session

    return blank_session()


@pytest.fixture
def marked():
    from demo_helpers import marked_session

    return marked_session()


@pytest.fixture(scope="module")
def completed(models):
    from demo_helpers import completed_session

    return completed_session(models)
