create table generated_no_more.orders (
    id int primary key, net int not null, price int,
    gross int generated always as (net + net / 5) stored,
    label text generated always as (case when price > 100 then 'dear' else "left"(price::text, 2) end) stored,
    spare int generated always as (price * 2) stored,
    same int generated always as (id * net) stored
);
insert into generated_no_more.orders (id, net, price) select n, n * 10, n * 40 from generate_series(1, 4) as n;
