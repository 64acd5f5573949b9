"""Two ranks in threads of this process, and what rank 0 tells the other."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import SimpleNamespace

from harness import process_group


class TwoRanks:
    """Stands in for torch.distributed where rank 0 decides; all else is each rank's own."""

    def __init__(self, monkeypatch):
        self._told = Queue()
        self._here = threading.local()
        fake = SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: self._here.rank)
        monkeypatch.setattr(process_group, "dist", fake)
        monkeypatch.setattr(process_group, "broadcast_object_list", self._broadcast)

    def run(self, *works):
        """Return what each rank's work returned or raised, rank 0 first.

        A rank that waits for one that has ended raises a RuntimeError, and nobody may be told
        what nobody listens to.
        """
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(self._end_of, range(2), works))
        unheard = [self._told.get() for _ in range(self._told.qsize())]
        assert [message for message in unheard if message is not None] == []
        return ends

    def _end_of(self, rank, work):
        self._here.rank = rank
        try:
            return work()
        except Exception as error:
            return error
        finally:
            if rank == 0:
                self._told.put(None)

    def _broadcast(self, values):
        if self._here.rank == 0:
            self._told.put(pickle.dumps(values))
            return
        assert values == [None, None]  # It has not looked itself.
        message = self._told.get(timeout=60)
        if message is None:
            raise RuntimeError("gloo: rank 0 is gone")
        values[:] = pickle.loads(message)
