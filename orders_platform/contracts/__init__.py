"""One ODCS file per source table, and what is read from it. A table that has no contract does not exist here."""

from orders_platform.contracts.contract import Column, Contract, Masking
from orders_platform.contracts.loader import ContractError, load_contract, load_contracts

__all__ = ["Column", "Contract", "ContractError", "Masking", "load_contract", "load_contracts"]
