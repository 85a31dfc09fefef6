"""Registers the server and its hooks with the agents on this machine, and removes them again.

It edits the agents' own config files as text: all other content stays the same, byte for byte.

    registry.py       the agents
    agent.py          an agent: which files of it are edited, and how; a module for each agent has its `Agent`
    host_paths.py     where programs keep their files on each system
    server_entry.py   the command that is registered, and how install recognises its own entry
    jsonc.py          JSON with comments: the position of each value              (pure)
    json_edit.py      putting a value into such a text, or removing one           (pure)
    toml_edit.py      the same for TOML                                           (pure)
    config_edits.py   our servers in a config file: put, find, copy, remove       (pure)
    hook_edits.py     the same for hooks                                          (pure)
    restore.py        the text from before our entries                            (pure)
    config_files.py   reading, backing up and replacing files                     (I/O)
    apply.py          planning, showing and making changes                        (I/O)
    inspect.py        finds the registered entries and their problems             (I/O)
    probe.py          whether a registered command starts                         (I/O)
"""
