delete from conflict_other_key_is_referred_to.prices where code <> 'code 3';
