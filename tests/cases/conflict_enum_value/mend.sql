alter type conflict_enum_value.state rename value 'closed' to 'old';
