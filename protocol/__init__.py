"""The wire: messages, codec, topics, sockets, keys, the node loop, captures, typed errors and the client.

Pure modules (`messages`, `topics`, `codec`, `ticks`, `numbering`, `errors`) hold no socket and no clock;
`sockets` makes every socket; `loop` and `node` give a process its life.
"""
