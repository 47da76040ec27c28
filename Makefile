# Two commands for a fresh machine: "make demo" and "make test". Where ROS 2 is sourced, they use it.
.DEFAULT_GOAL := help
# Python puts the folder it is started in first on its path; here that would hide the installed package and its ops.
PYTEST := import sys; sys.path.remove(""); import pytest; sys.exit(pytest.main())
# All tests share the cores, each file in one process; some of them, as ARGS chooses, run in one process.
EVERY_TEST := -n logical --maxprocesses 4 --dist loadfile
.PHONY: help demo test soak build lint clean distclean

help:
	@echo "make demo               play a recording into the live node and draw what it tracks"
	@echo "make demo INPUT=PATH    the same with a bag or video of yours"
	@echo "make test               all tests (make test ARGS='-k name' for some of them)"
	@echo "make soak               the node under load and faults for MINUTES=5, its memory watched"
	@echo "make build              the ROS package into ./install (messages, node, fused ops)"
	@echo "make lint               ruff, mypy, clang-format"
	@echo "make clean              forget what was built; make distclean: the virtual environment too"
	@echo "tools/run.sh COMMAND    any command with package and ROS on its paths"
	@echo "PYTHON=python3.12       the interpreter to make .venv with (3.10 to 3.14)"

build:
	@tools/environment.sh
	@tools/build.sh

demo: build
	@tools/run.sh python -m taptrv2_ros.demo $(if $(INPUT),"$(INPUT)")

test:
	@tools/environment.sh dev
	@tools/build.sh
	@tools/run.sh python -c '$(PYTEST)' $(or $(ARGS),$(EVERY_TEST))

soak: build
	@tools/run.sh python -m taptrv2_ros.bench.soak --minutes $(or $(MINUTES),5)

lint:
	@tools/environment.sh dev
	@tools/lint.sh

clean:
	rm -rf build install log *.egg-info
	find taptrv2_core -name '*.so' -type l -delete

distclean: clean
	rm -rf .venv .venv-*
