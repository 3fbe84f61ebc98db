"""Evidence as files: what is signed, the signature, its verification, and the model card."""
