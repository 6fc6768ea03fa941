"""mem0's verbs and return shapes over tenfold's memory: `from tenfold.memory.mem0 import Memory`.

Written against mem0ai 2.2.1 (open source, Apache-2.0). What is remembered is kept word for word; no
language model is asked, so `infer=True` means only this: a text that the same ids have already is
not kept twice. Facts are read from texts by rules (`tenfold.memory.Memory.facts`).

Whose a memory is, its ids decide once and for all: the user's if there is a user_id, else the
agent's, else the run's. Each owner is a member of the tenant and reads nothing of the others';
within an owner, the other ids only narrow a search down.
"""

from tenfold.memory.mem0.filters import Mem0Error as Mem0Error
from tenfold.memory.mem0.surface import AsyncMemory as AsyncMemory
from tenfold.memory.mem0.surface import Memory as Memory
