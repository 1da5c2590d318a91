"""Fixtures of the tests of the demo's page, which are left out where gradio is not there."""

from importlib.util import find_spec

import pytest

if not (find_spec("gradio") and find_spec("skimage")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pipelines with tiny networks."""
    from demo_helpers import save_pipelines

    return save_pipelines(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def models(folder):
    from page.models import Models

    return Models(folder)


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


@pytest.fixture
def edited(completed):
    return completed.step(view="edit")
