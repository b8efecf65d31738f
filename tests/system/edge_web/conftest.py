"""The phones of the tests of tabs, which are enrolled once."""

from __future__ import annotations

import pytest
from web_browser import built_page_and_browser
from web_tabs import fixed_bundle, fixed_page, tabs_of
from web_world import DESKS, World, config_with

from orchestrator.network.authority import make_keys
from orchestrator.network.web_site import Bundle, Site


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    page, browser = built_page_and_browser()
    folder = tmp_path_factory.mktemp("tabs")
    make_keys(folder / "keys", DESKS)
    site = Site(fixed_page(page, folder / "page"), Bundle.read(fixed_bundle(folder / "bundle", config_with(0))))
    with tabs_of(browser) as tabs, tabs_of(browser) as pocket:
        world = World(tabs, pocket, folder / "keys", site)
        world.enrol()
        yield world
