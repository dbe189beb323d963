"""Values that are stored encrypted: by which scheme, which places of a resource, and where the keys come from.

The agent alone knows the keys. It decrypts before it publishes, and encrypts before it writes, so that neither workers
nor shared memory know anything of encryption.
"""

from sync_agent.encryption.protection import PLAIN, Protection
from sync_agent.encryption.scheme import Keyring

__all__ = ["PLAIN", "Keyring", "Protection"]
