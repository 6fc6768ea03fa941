"""Recipe that trains ``concierge``, the small model shipped inside tenfold (see README.md)."""
