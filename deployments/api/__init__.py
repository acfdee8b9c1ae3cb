"""All that speaks HTTP: the ingress, the forms it accepts and the OpenAPI description.

May import `request`, `core` and `config`. Reaches the stages through the router's handle only.
"""
