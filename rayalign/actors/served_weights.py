"""What an engine answers with: the base, an adapter beside it, or weights into which one is merged; also across a
sleep, in which the device's memory is another's."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.actors.model_source import write_adapter
from rayalign.actors.vllm_start import pack_head
from rayalign.config.run import RunConfig
from rayalign.errors import SyncError
from rayalign.learning.merged import MergedWeights
from rayalign.records import AdapterFiles, weights_file

if TYPE_CHECKING:
    from vllm import LLMEngine
    from vllm.lora.request import LoRARequest

FORGETS = 2
"""The level of vLLM's sleep that drops the weights; at level 1 they wait in host memory."""


class ServedWeights:
    """The weights of one engine. Only the thread that owns the engine calls it, and only while no request runs.

    Args:
        replica: name for messages.
        model: local folder of the base model.
    """

    def __init__(self, engine: LLMEngine, replica: str, model: Path, config: RunConfig) -> None:
        self._engine, self._replica = engine, replica
        self._merged = MergedWeights(model) if config.merges else None
        self._pristine = True
        self._adapter_ids = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="rayalign-adapters-"))
        self.lora: LoRARequest | None = None
        """What requests name to be answered with the adapter; null on the base, and where it is merged."""

    def change_to(self, version: int, files: AdapterFiles | None) -> str | None:
        """Take a version's files, or (null) the bare base; returns their checksum.

        Raises:
            SyncError: the files are not what they say, or vLLM refuses them.
        """
        if (version == 0) != (files is None):
            raise SyncError(f"{self._replica}: version {version} {'with' if files else 'without'} adapter files")
        sha256 = self._merge(files) if self._merged is not None else self._load_lora(files)
        # What the cache holds was computed under the weights before.
        self._engine.reset_prefix_cache()
        return sha256

    def sleep(self, level: int) -> None:
        """Give the device's memory back. After a sleep of level 2 a version has to be loaded again."""
        # What the cache holds does not outlast it.
        self._engine.reset_prefix_cache()
        self._engine.sleep(level=level)

    def wake(self, level: int) -> None:
        """Take the device's memory again, after a sleep of this level."""
        self._engine.wake_up()
        if level < FORGETS:
            return
        if self.lora is not None:
            self._drop_lora(self.lora)
        if self._merged is None:
            self._engine.collective_rpc("reload_weights")
            self._engine.apply_model(pack_head)
        self._pristine = False

    def close(self) -> None:
        """Remove the adapters' folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _merge(self, files: AdapterFiles | None) -> str | None:
        """Replace all weights by the checkpoint's, the adapter added, or by those that the learner made of them; what
        failed half-way is repaired by the next."""
        assert self._merged is not None
        sha256 = None if files is None else hashlib.sha256(files.files[weights_file(files.files)]).hexdigest()
        self._check(files, sha256)
        if not (files is None and self._pristine):
            tensors = self._merged.tensors(None if files is None else files.files)
            self._pristine = False
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
            self._engine.apply_model(pack_head)
            self._pristine = files is None
        return sha256

    def _load_lora(self, files: AdapterFiles | None) -> str | None:
        from vllm.lora.request import LoRARequest

        if self.lora is not None:
            self._drop_lora(self.lora)
        if files is None:
            return None
        number = next(self._adapter_ids)
        folder = self._folder / f"v{files.version}-{files.sha256[:12]}-{number}"
        sha256 = write_adapter(folder, files)
        self._check(files, sha256)
        lora = LoRARequest(folder.name, number, str(folder))
        if not self._engine.add_lora(lora):
            raise SyncError(f"{self._replica}: vLLM did not take adapter {files.version}")
        self.lora = lora
        return sha256

    def _drop_lora(self, lora: LoRARequest) -> None:
        self._engine.remove_lora(lora.lora_int_id)
        shutil.rmtree(lora.lora_path)
        self.lora = None

    def _check(self, files: AdapterFiles | None, sha256: str | None) -> None:
        if files is not None and sha256 != files.sha256:
            raise SyncError(
                f"{self._replica}: adapter {files.version} arrived with checksum {sha256}",
                f"the learner made {files.sha256}",
            )
