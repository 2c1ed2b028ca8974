"""Options of the tests, and the fixtures of the processes that run tests."""


def pytest_addoption(parser):
    parser.addoption(
        "--compositions",
        type=int,
        default=300,
        help="random compositions that tests/journeys/test_search.py tries",
    )


def pytest_configure(config):
    # With `--numprocesses` this process only deals the tests to workers. Workers would
    # wait while this process imports TensorFlow.
    deals = getattr(config.option, "numprocesses", None)
    if not deals or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("shared_fixtures")
