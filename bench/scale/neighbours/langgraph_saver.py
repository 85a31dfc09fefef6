"""LangGraph with its SQLite saver: a graph whose state is the list of messages. A query returns the whole list."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from harness import run
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

CONFIG: Any = {"configurable": {"thread_id": "long"}}


class LangGraphSqlite:
    def __init__(self, folder: Path) -> None:
        self.processes: list[int] = []
        self._connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
        graph = StateGraph(MessagesState)
        graph.add_node("rest", lambda state: {})
        graph.add_edge(START, "rest")
        graph.add_edge("rest", END)
        self._graph: Any = graph.compile(checkpointer=SqliteSaver(self._connection))

    def fill(self, turns: list[dict[str, Any]]) -> None:
        self._graph.invoke({"messages": [_message(turn) for turn in turns]}, CONFIG)

    def append(self, turn: dict[str, Any]) -> None:
        self._graph.invoke({"messages": [_message(turn)]}, CONFIG)

    def query(self, text: str) -> int:
        return sum(len(message.content) for message in self._graph.get_state(CONFIG).values["messages"])

    def close(self) -> None:
        self._connection.close()


def _message(turn: dict[str, Any]) -> Any:
    return (HumanMessage if turn["role"] == "user" else AIMessage)(turn["content"])


if __name__ == "__main__":
    run(LangGraphSqlite)
