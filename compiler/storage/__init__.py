"""The store: what durably holds packages and every kept epoch."""
