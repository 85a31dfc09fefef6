"""Trains the ranker's weights and measures recall offline, with the package's own analysis, chunking and ranking.

    CTXMEM_EVAL_DIR=... python -m bench.train.fit        trains, cross-validates, writes retrieval/weights.json
    CTXMEM_EVAL_DIR=... python -m bench.train.measure    recall at several budgets with given weights, beside BM25
    CTXMEM_EVAL_DIR=... python -m bench.train.prompts    fits the weights of recall with a prompt, and prints them

Requires numpy and scipy, which the package itself does not. LoCoMo (CC BY-NC) is used for measuring only.
"""
