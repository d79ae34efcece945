"""What some tests share beside fixtures."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The end of a script with a function run(rank): two processes of it, and a status that says whether both went well.
FORK_TWO = """
children = []
for rank in range(2):
    if (child := os.fork()) == 0:
        try: run(rank)
        except BaseException: import traceback; traceback.print_exc(); os._exit(1)
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(statuses))
"""


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gave back."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            self.numel = max(self.numel, x.numel() if isinstance(x, torch.Tensor) else 0)
        return result
