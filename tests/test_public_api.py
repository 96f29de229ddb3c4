import ast
import inspect
from pathlib import Path

import pytest

import ffsplat


def test_every_public_name_is_there_and_sorted():
    assert ffsplat.__all__ == sorted(ffsplat.__all__)
    for name in ffsplat.__all__:
        assert getattr(ffsplat, name) is not None
        assert name in dir(ffsplat)
    namespace: dict = {}
    exec("from ffsplat import *", namespace)
    assert set(ffsplat.__all__) <= set(namespace)


def test_type_checkers_see_the_same_names_at_the_same_places():
    tree = ast.parse(Path(ffsplat.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            seen[node.module] = tuple(sorted(alias.name for alias in node.names))
    assert seen == ffsplat._HOMES
    names = {name for names in seen.values() for name in names}
    assert names | {"__version__"} == set(ffsplat.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ffsplat.nonsense  # noqa: B018


def test_public_things_are_documented():
    for name in ffsplat.__all__:
        thing = getattr(ffsplat, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
            if inspect.isclass(thing):
                methods = {key: value for key, value in vars(thing).items() if key[0] != "_"}
                for key, method in methods.items():
                    if inspect.isfunction(method):
                        assert inspect.getdoc(method), f"{name}.{key}"


def test_the_version_is_that_of_the_package():
    project = Path(ffsplat.__file__).parents[1] / "pyproject.toml"
    assert f'version = "{ffsplat.__version__}"' in project.read_text()
