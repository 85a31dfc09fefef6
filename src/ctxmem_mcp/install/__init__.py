"""Registers the server and its hooks with the agents of this machine, and takes them out again.

It only edits the agents' own config files, and those as text: what is not ours stays as it is, byte for byte.

    agents.py     who there is, and what each of them keeps where
    places.py     the folders, by operating system (data)
    entries.py    what we write into a config, and how we know it again
    jsonc.py      JSON with comments as text: where each thing stands         (pure)
    splicing.py   putting one thing into such a text, or taking it out        (pure)
    tables.py     the same for TOML                                           (pure)
    parts.py      one file's share of ours: put, found, taken out             (pure)
    undoing.py    the text that was there before ours                         (pure)
    files.py      reading, backing up, replacing                              (I/O)
    apply.py   plan, show, do                                              (I/O)
    looking.py    what is registered where, and what is wrong with it         (I/O)
    probing.py    whether a registered command starts                         (I/O)
"""
