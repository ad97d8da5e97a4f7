alter table columns_retyped.readings
    alter taken type timestamptz using taken at time zone 'Europe/Berlin',
    alter degrees type numeric using degrees::numeric,
    alter tags type text[] using string_to_array(tags, ','),
    alter flag type boolean using flag <> 0,
    alter code type text;
