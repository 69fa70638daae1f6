-- The shop's five tables. May be applied again at any time: it creates what is missing and changes nothing else.
--
-- Keys may change (a product gets another number), so references follow by ON UPDATE CASCADE. A cascade writes each
-- referencing row, and each of them travels through the WAL as a change of its own: every referencing column therefore
-- has an index, which also keeps a delete from scanning the tables that might refer to the row.
-- Deletes do not cascade, but for stock, which means nothing without its product: what else would vanish with a row is
-- deleted by name, in the same transaction.
-- REPLICA IDENTITY stays DEFAULT: updates and deletes carry the key of the old row, and no more.

CREATE TABLE IF NOT EXISTS public.customers (
    customer_id bigint PRIMARY KEY,
    email text NOT NULL,
    full_name text NOT NULL,
    phone text,
    address text,
    region text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- The description is stored uncompressed, and out of line beyond 2 kB: an update that leaves it alone does not write it
-- to the WAL again.
CREATE TABLE IF NOT EXISTS public.products (
    product_id bigint PRIMARY KEY,
    sku text NOT NULL,
    name text NOT NULL,
    description text STORAGE EXTERNAL,
    category text NOT NULL,
    price numeric(12, 2) NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS public.inventory (
    warehouse_id integer NOT NULL,
    product_id bigint NOT NULL REFERENCES public.products ON UPDATE CASCADE ON DELETE CASCADE,
    quantity integer NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (warehouse_id, product_id)
);
CREATE INDEX IF NOT EXISTS inventory_product_id ON public.inventory (product_id);

CREATE TABLE IF NOT EXISTS public.orders (
    order_id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.customers ON UPDATE CASCADE,
    status text NOT NULL CHECK (status IN ('placed', 'paid', 'shipped', 'delivered', 'cancelled')),
    currency text NOT NULL,
    total numeric(14, 2) NOT NULL,
    refunded numeric(14, 2) NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_customer_id ON public.orders (customer_id);

CREATE TABLE IF NOT EXISTS public.line_items (
    line_item_id bigint PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES public.orders ON UPDATE CASCADE,
    product_id bigint NOT NULL REFERENCES public.products ON UPDATE CASCADE,
    quantity integer NOT NULL,
    unit_price numeric(12, 2) NOT NULL,
    discount numeric(12, 2) NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS line_items_order_id ON public.line_items (order_id);
CREATE INDEX IF NOT EXISTS line_items_product_id ON public.line_items (product_id);
