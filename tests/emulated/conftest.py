"""Fixtures of several modules: the emulated board takes half a minute to make."""

from tests.emulated.board import plain_board, rpc_board

__all__ = ["plain_board", "rpc_board"]
