-- The ledger's own database beside Prefect's, on the first start of the container.
CREATE DATABASE ledger;
