"""AdamW (Loshchilov & Hutter 2019): one step for one array, and one for a flat arena of parameters."""
