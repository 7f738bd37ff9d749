"""Names that configs have for a size."""

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
WIDTHS = ("hidden_size", "n_embd", "d_model")
# Some models embed in fewer dimensions than they think in, and some fill their vocabulary up.
NARROWER = ("word_embed_proj_dim", "embedding_size", "input_embedding_size", "embed_dim", "emb_dim")
PADDED, MULTIPLE = "padded_vocab_size", "pad_vocab_size_multiple"
# Layers that follow the counted ones.
EXTRA_LAYERS = "num_nextn_predict_layers"
