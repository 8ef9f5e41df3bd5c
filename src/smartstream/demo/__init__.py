"""The demo: a company's database, people at work in it, and the lake that keeps in step."""

from smartstream.demo.run import run_demo

__all__ = ["run_demo"]
