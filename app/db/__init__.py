"""metis-postgres: sessions, models, migrations."""
