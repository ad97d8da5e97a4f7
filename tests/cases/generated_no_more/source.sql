alter table generated_no_more.orders
    alter gross drop expression, alter label drop expression, alter spare drop expression, alter gross type bigint,
    alter gross set not null, add code text;
update generated_no_more.orders set code = label, spare = null;
