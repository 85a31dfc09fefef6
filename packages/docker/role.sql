-- The role of the service is no superuser, so that row-level security holds for it.
\getenv password CTXMEM_DATABASE_PASSWORD
CREATE ROLE ctxmem LOGIN PASSWORD :'password';
CREATE DATABASE ctxmem OWNER ctxmem;
