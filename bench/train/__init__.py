"""Trains the ranker's weights and measures recall offline, with the product's own reading, cutting and ranking.

    CTXMEM_EVAL_DIR=... python -m bench.train.fit        trains, cross-validates, writes retrieval/weights.json
    CTXMEM_EVAL_DIR=... python -m bench.train.measure    recall at budgets with given weights, beside BM25

Needs numpy and scipy, which the package itself never does. LoCoMo (CC BY-NC) is only ever measured on.
"""
