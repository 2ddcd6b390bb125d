"""The zoo: where a named model comes from, how it is built, and what it is fed.

`ivyport.zoo.hf` covers Hugging Face torch models, `ivyport.zoo.haiku` has Perceiver IO and
the nets of dm-haiku. Nothing is imported here, so that a zoo entry of one framework works
where the others are not installed.
"""
